"""The weights of Keras' layers, read without Keras."""
