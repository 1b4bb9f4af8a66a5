"""Programs in CEL: bounds, isolation, and what the process they run in gives back."""
