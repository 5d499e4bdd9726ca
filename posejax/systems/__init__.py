"""The complete systems, one package each; they do not know one another."""
