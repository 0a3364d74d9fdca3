"""What networks withstand that were trained against attacks, or on sets that attacks have made."""
