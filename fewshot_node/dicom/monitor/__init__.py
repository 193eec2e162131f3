"""How the receiver is: counters, checks, and the small HTTP server that shows them."""
