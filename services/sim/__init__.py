"""The business of SIM cards: entering them, giving them to customers, and their life."""
