"""Training loops that differ from `transformers.Trainer`'s, and the settings that make every run resume exactly."""
