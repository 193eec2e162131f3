"""The embedded promptable model: SAM's architecture, small, learnt from synthetic images alone."""
