"""Live cameras: their frames on the way through the model server as they are captured."""
