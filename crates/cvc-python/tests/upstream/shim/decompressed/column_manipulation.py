from cvc import add_column, delete_column, list_columns, rename_column, update_column

__all__ = ["add_column", "delete_column", "list_columns", "rename_column", "update_column"]
