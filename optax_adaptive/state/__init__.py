"""How state is kept: packed, tagged, placed, copied and brought back, validated."""
