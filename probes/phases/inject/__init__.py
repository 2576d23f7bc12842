"""Files for the target's interpreter (see ../hook.py): this folder is put on its PYTHONPATH. Nothing imports from here."""
