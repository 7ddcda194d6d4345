"""How the gateway's tables came about, one file a step under versions/; gateway/database.py runs them."""
