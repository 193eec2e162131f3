"""Learning the packaged encoder without real images or labels: synthetic maps, views, loss and training loop."""
