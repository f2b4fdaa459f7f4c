"""LoRAs: small files that change a model, of three programs that train them. They are merged into the weights."""
