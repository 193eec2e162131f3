"""Phantoms with exact truth, suites of annotated patients, and methods compared on them."""
