"""What a frame says without the model, and what follows from it."""
