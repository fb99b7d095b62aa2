"""For authors of plugins: skeletons to start from, the guide, and the list of what a plugin may use."""
