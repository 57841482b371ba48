"""The ledger and the venues made to agree, before anything new is risked."""
