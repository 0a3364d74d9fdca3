"""How well adversarial patches work: measured, told as claims, tables and figures."""
