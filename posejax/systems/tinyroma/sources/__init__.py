"""Where pairs of images come from; each kind is a frozen dataclass, a `Pairs`."""
