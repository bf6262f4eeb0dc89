"""How long tilings of a matrix product should take, wave by wave, and which is the fastest."""
