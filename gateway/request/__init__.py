"""A request on its way in: its head, its body, its parameters, its time."""
