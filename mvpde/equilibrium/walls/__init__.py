"""Long times between absorbing walls."""
