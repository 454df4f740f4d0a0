"""A registered version becomes a served one: gates, wish and truth, stages, rollback."""
