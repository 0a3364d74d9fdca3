"""Input-space transforms: (params, model_state, batch, key, frozen) -> batch."""
