"""Point features from RGB-D frames, of the image and the points: all that a config file names."""
