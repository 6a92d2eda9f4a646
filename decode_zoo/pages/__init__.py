"""Pages and pictures: the only place that draws."""
