"""HTTP in front of Triton: pictures and words in, scored boxes out. Knows no torch."""
