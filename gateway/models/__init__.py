"""The models that Triton serves, and how a picture is read with them."""
