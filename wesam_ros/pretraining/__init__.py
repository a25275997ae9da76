"""The making of the shipped `tiny` model: scenes of the simulator's source domain, and the training itself."""
