"""What a stage is and how one is carried out; names no single stage."""
