"""pytest-django: the connection is Django's, and stays open from test to test."""

import contextlib

import pytest
from django.db import DatabaseError
from django.test import TestCase, TransactionTestCase
from shop.models import Order


@pytest.mark.django_db(transaction=True)
@pytest.mark.every_fault(operations="write,sync")
def test_marked():
    Order.objects.create(name="tea")
    assert Order.objects.count() == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.every_fault(operations="write,sync")
def test_marked_fails():
    with contextlib.suppress(DatabaseError):
        Order.objects.create(name="tea")
    assert Order.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_unmarked():
    Order.objects.create(name="tea")
    assert Order.objects.count() == 1


@pytest.mark.django_db
def test_unmarked_in_a_transaction():
    assert Order.objects.count() == 0


@pytest.mark.django_db(transaction=True)
@pytest.mark.interleave
def test_marked_interleave(callers):
    callers(lambda: Order.objects.create(name="tea"), lambda: Order.objects.create(name="milk"))
    assert Order.objects.count() == 2


@pytest.mark.django_db
@pytest.mark.interleave
def test_refused_interleave(callers):
    callers(lambda: Order.objects.create(name="tea"), lambda: Order.objects.create(name="milk"))


class TestOfTransactions(TransactionTestCase):
    @pytest.mark.every_fault(operations="write,sync,delete")
    def test_marked(self):
        Order.objects.create(name="tea")
        assert Order.objects.count() == 1

    def test_unmarked(self):
        assert Order.objects.count() == 0


class TestInATransaction(TestCase):
    @classmethod
    def setUpTestData(cls):
        Order.objects.create(name="tea")

    @pytest.mark.every_fault
    def test_refused(self):
        assert Order.objects.count() == 1

    def test_unmarked(self):
        assert Order.objects.count() == 1
