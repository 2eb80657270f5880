"""What people look at: pictures of masks, HTML reports, curves and terminal tables."""
