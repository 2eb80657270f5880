"""What a stage is and how it is carried out; knows no single stage."""
