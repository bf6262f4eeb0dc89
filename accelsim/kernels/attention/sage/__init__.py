"""SageAttention: integer scores of smoothed keys, and a second product in FP16 or FP8."""
