"""Bringing results to their destinations, each at its own pace, and knowing that they have arrived."""
