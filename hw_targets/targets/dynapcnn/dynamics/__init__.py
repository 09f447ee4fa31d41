"""The one definition of DYNAP-CNN's step (`step`), what runs it (`engine`), and what follows from it (`definition`)."""
