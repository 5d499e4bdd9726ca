"""Registration of an online raster in a geo-referenced map: (x, y, yaw) with covariance."""
