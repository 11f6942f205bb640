"""Each default of autotune against others."""
