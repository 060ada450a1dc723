"""From outcomes to what people read: numbers (`analyse`), then tables, figures and a page that only show them."""
