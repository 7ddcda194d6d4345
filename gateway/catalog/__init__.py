"""The defect catalog: what this plant calls a defect, in both languages, kept in the database and asked for by name."""
