"""How close an answer is to the truth: scores of a case, means with intervals over patients."""
