"""A package, so that no library that installs tests of its own (rt-utils does) takes its name."""
