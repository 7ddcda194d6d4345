"""The review loop: what was answered is kept, people judge it, their judgements become rates and training data."""
