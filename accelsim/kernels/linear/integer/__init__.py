"""What the quantized linears share: parameters, tiles, operands, and the steps before and after."""
