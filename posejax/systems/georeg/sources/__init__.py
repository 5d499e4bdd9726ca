"""Where registration examples come from: each source is a frozen config: `build`, `online`."""
