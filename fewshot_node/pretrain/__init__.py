"""Learning the packaged encoder without real images: synthetic maps, views, loss, training."""
