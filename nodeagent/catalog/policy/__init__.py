"""What a document says → an entry that is sound, or all that is wrong with it; pure."""
