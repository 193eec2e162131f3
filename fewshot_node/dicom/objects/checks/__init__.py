"""What an object is held against before it leaves: one module a kind of rule, each of which yields `Fault`s."""
