"""Outcomes: graded and accepted samples per problem and policy, as a table and as files."""
