"""One script per hot path: posejax and a peer side by side in one run."""
