"""The embedded UniverSeg: its published architecture, small, learnt from synthetic images alone."""
