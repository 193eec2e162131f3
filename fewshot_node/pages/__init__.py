"""What people look at: pictures of results, curves, and pages that stand alone."""
