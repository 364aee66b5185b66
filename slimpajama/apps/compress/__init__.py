"""Files compressed by a model's likelihood: any bytes, restored exactly."""
