# frozen_string_literal: true

class InstallTaskerFunctions < ActiveRecord::Migration[7.1]
  def up = TaskerCore::Functions.install!(connection)

  def down = TaskerCore::Functions.uninstall!(connection)
end
