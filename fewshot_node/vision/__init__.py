"""The vision half: arrays in, arrays out."""
